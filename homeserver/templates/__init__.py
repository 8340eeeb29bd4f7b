"""Pages for people's browsers. Loaded when first asked for."""

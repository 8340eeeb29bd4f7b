"""Full-text search in what people may see: the same words on both databases, also of scripts that write no spaces."""

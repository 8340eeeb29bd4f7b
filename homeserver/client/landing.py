"""`GET /`: a page for people who open the server's address in a browser."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from homeserver import __version__
from homeserver.about import About
from homeserver.http.route import NONE, Reply, route

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=600",
}


# No limit: it is a constant.
@route("GET", "/", auth=NONE, rate=None)
async def get_landing_page(about: About) -> Reply:
    settings = about.settings
    registration = "closed"
    if settings.registration.enabled:
        registration = "token" if settings.registration.requires_token else "open"
    contact = settings.server.admin_contact
    if contact is not None and not contact.startswith(("https://", "http://", "mailto:")):
        contact = f"mailto:{contact}"
    page = _render(
        server_name=settings.server.name,
        description=settings.server.description,
        address=settings.server.public_baseurl or settings.server.name,
        registration=registration,
        contact=contact,
        version=__version__,
    )
    return Reply(200, page, HEADERS)


@lru_cache(maxsize=4)
def _render(**values: str | None) -> bytes:
    from jinja2 import Environment  # its import costs more than many a request; most servers show the page rarely

    source = files("homeserver.templates").joinpath("landing.html").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(source).render(**values).encode()

"""The application, served inside."""

from app import web

from kluis.enclave import Enclave, asgi

app = Enclave("web", product_id=1, svn=1)
asgi.host(app, web, websockets=asgi.WebSockets())

"""The MCP server inside the enclave. The host forwards ciphertext, and cannot read calls or results."""

from typing import Annotated

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field

from kluis.enclave import Enclave, asgi

app = Enclave("project_name", product_id=1, svn=1)
server = MCPServer("project_name")


@server.tool()
def mean_age(ages: Annotated[list[int], Field(min_length=5, max_length=10_000)]) -> float:
    """Return the mean of at least five ages."""
    return sum(ages) / len(ages)


asgi.host(
    app,
    server.streamable_http_app(
        stateless_http=True,  # several enclaves share the port: none keeps a session
        json_response=True,
        # Clients name the enclave by any address; they authenticate it by its evidence.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    ),
)

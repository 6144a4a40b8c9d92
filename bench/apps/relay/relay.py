"""The plainest proxy: asyncio's streams, which copy bytes to a server with TLS; prints its port."""

import asyncio
import ssl
import sys


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the end."""
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()
    sink.close()


async def serve(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    """Connect a client to the server."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    far, out = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=context)
    await asyncio.gather(copy(near, out), copy(far, back), return_exceptions=True)


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

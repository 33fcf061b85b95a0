"""Real clients for the walk-through: `clients.py grpc ADDRESS`, `clients.py websocket URL`. Exits 0 only if all was well.

The WebSocket client echoes once a second until its standard input ends, then closes in good order and prints `echoed=N`.
"""

import asyncio
import sys

import grpc


def rpc(address):
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        echo = channel.unary_unary("/shop.Orders/Echo")
        for size in (0, 1, 100, 1_000_000):
            answer, call = echo.with_call(b"x" * size, timeout=10)
            assert answer == b"x" * size, size
            assert dict(call.trailing_metadata())["served-by"] == "orders"
        chat = channel.stream_stream("/shop.Orders/Chat")
        messages = [bytes([n]) * 1000 for n in range(50)]
        assert list(chat(iter(messages), timeout=10)) == messages
        try:
            channel.unary_unary("/shop.Orders/Nothing")(b"", timeout=10)
            raise AssertionError("an unknown method was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    print("grpc=ok")


async def websocket(url):
    import websockets

    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    echoed = 0
    async with websockets.connect(url, open_timeout=10) as socket:
        print("open", flush=True)
        while not ended.done():
            text = f"message {echoed}"
            await socket.send(text)
            assert await asyncio.wait_for(socket.recv(), 10) == text
            echoed += 1
            await asyncio.wait([ended], timeout=0.1)
    print(f"echoed={echoed}", flush=True)


if sys.argv[1] == "grpc":
    rpc(sys.argv[2])
else:
    asyncio.run(websocket(sys.argv[2]))

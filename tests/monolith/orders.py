"""The extracted part of the walk-through: what two of Tomcat's example servlets do, written again in another language.

HTTP/1.1 on one port, gRPC on another; both are printed as `http=PORT grpc=PORT`. Every answer says `X-Served-By: orders`.
"""

import concurrent.futures
import http.server
import threading

import grpc


class Orders(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, head and body of an answer would leave apart and wait for each other.
    wbufsize = -1

    def do_GET(self):
        if self.path == "/examples/servlets/servlet/HelloWorldExample":
            self.answer("Hello World!\n")
        else:
            self.answer("not here\n", 404)

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        total = left
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.answer(f"Total bytes written = [{total}]")

    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Served-By", "orders")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Echo(grpc.GenericRpcHandler):
    """Unary and bidirectional echo of bytes, with a trailer of its own."""

    def service(self, call):
        def unary(request, context):
            context.set_trailing_metadata((("served-by", "orders"),))
            return request

        def both(requests, context):
            for request in requests:
                yield request
            context.set_trailing_metadata((("served-by", "orders"),))

        if call.method == "/shop.Orders/Echo":
            return grpc.unary_unary_rpc_method_handler(unary)
        if call.method == "/shop.Orders/Chat":
            return grpc.stream_stream_rpc_method_handler(both)
        return None


def main():
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Orders)
    web.daemon_threads = True
    rpc = grpc.server(concurrent.futures.ThreadPoolExecutor(8), handlers=(Echo(),))
    port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    print(f"http={web.server_port} grpc={port}", flush=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    # The parent holds our standard input open; its end is ours.
    import sys

    sys.stdin.read()


main()

"""A registry over TLS: answers every question with the list in a file, under the certificate that is in another one at that moment."""
import socket
import ssl
import sys

folder = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    client.settimeout(20)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/now.pem", f"{folder}/key.pem")
        with context.wrap_socket(client, server_side=True) as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = stream.recv(1)
                if not byte:
                    raise ConnectionError("no whole head")
                head += byte
            body = open(f"{folder}/list.json", "rb").read()
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    except (OSError, ssl.SSLError) as error:
        print(error, file=sys.stderr, flush=True)
    finally:
        client.close()

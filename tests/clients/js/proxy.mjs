// A TCP proxy that cuts: all its connections on demand, or one after so many bytes of what the server sent.
//
// On demand it resets them, as a phone that leaves its network does. Counted cuts are a FIN, so that every byte
// before the cut arrives and the place is exact. Knows nothing of HTTP.

import net from "node:net";

export class CuttingProxy {
  #target;
  #sockets = new Set();
  #left = Infinity;
  /** Number of bytes that have come of the server. */
  received = 0;

  static async before(url) {
    const proxy = new CuttingProxy();
    proxy.#target = new URL(url);
    proxy.server = net.createServer((client) => proxy.#serve(client));
    await new Promise((listening) => proxy.server.listen(0, "127.0.0.1", listening));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  cut() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  cutAfter(bytes) {
    this.#left = bytes;
  }

  close() {
    this.server.close();
    this.cut();
  }

  #serve(client) {
    const server = net.connect(Number(this.#target.port), this.#target.hostname);
    for (const [socket, other] of [[client, server], [server, client]]) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(server);
    server.on("end", () => client.end());
    server.on("data", (data) => this.#pass(data, client, server));
  }

  #pass(data, client, server) {
    this.received += data.length;
    if (data.length < this.#left) {
      this.#left -= data.length;
      client.write(data);
      return;
    }
    const last = data.subarray(0, this.#left);
    this.#left = Infinity;
    server.removeAllListeners("data");
    client.end(last, () => server.destroy());
  }
}

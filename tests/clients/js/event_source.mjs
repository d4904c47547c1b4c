// How an application listens with the interface that browsers have; the browser's own page is given this file too.

export function listen(EventSource, url, names, { tell, end }) {
  const source = new EventSource(url);
  for (const name of names) {
    source.addEventListener(name, ({ type, data, lastEventId }) => tell({ name: type, data, id: lastEventId }));
  }
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) end("readyState is CLOSED");
  });
  return () => source.close();
}

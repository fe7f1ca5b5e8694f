// examples/sealing in a real Chromium, driven as a person would: node sealing.mjs URL FILTER.
// Reads one JSON object a line on stdin: the fields of one of its forms, which is then sent. Prints what the page shows:
// its messages as they are, `status: …`, and `public: …` for keys it made.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [url, filter] = process.argv.slice(2);
// Below localhost, so that it is a secure context: elsewhere a page without TLS has no WebCrypto.
const HOST = "page.localhost";
const EXAMPLE = new URL("../../../examples/sealing/", import.meta.url);
const MQTT = new URL("node_modules/mqtt/dist/mqtt.min.js", import.meta.url);
const TYPES = { html: "text/html", js: "text/javascript" };

const server = createServer((request, response) => {
  const name = request.url === "/" ? "index.html" : request.url.slice(1);
  const type = TYPES[name.split(".").at(-1)];
  if (!/^[a-z.]+$/.test(name) || !type) {
    response.writeHead(404).end();
    return;
  }
  const body = readFileSync(name === "mqtt.min.js" ? MQTT : new URL(name, EXAMPLE));
  response.writeHead(200, { "content-type": type }).end(body);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const browser = await puppeteer.launch({
  executablePath: execFileSync("which", ["chromium"], { encoding: "utf8" }).trim(),
  args: [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    `--host-resolver-rules=MAP ${HOST} 127.0.0.1:${server.address().port}`,
  ],
});
const page = await browser.newPage();
page.on("console", (message) => console.error(`page: ${message.text()}`));
page.on("pageerror", (error) => console.error(`page: ${error}`));
await page.exposeFunction("shown", (text) => console.log(text));
await page.goto(`http://${HOST}/`);
await page.evaluate(() => {
  const watch = (id, text) =>
    new MutationObserver((changes) => {
      for (const { addedNodes } of changes) for (const node of addedNodes) window.shown(text(node));
    }).observe(document.getElementById(id), { childList: true });
  watch("messages", (node) => node.textContent);
  watch("ring", (node) => `key: ${node.textContent} ${document.getElementById("public").value.replaceAll("\n", "")}`.trim());
  watch("status", (node) => `status: ${node.textContent}`);
});
const send = (form, fields) =>
  page.evaluate(
    (id, fields) => {
      const form = document.getElementById(id);
      form.reset();
      for (const [name, value] of Object.entries(fields)) form.elements[name].value = value;
      form.requestSubmit();
    },
    form,
    fields,
  );
await send("connection", { url, filter });
try {
  for await (const line of createInterface({ input: process.stdin })) {
    const { form, ...fields } = JSON.parse(line);
    await send(form, fields);
  }
} finally {
  await browser.close();
  server.close();
}

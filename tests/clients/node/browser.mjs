// MQTT.js in a real Chromium: node browser.mjs URL HOST served|refused
// The page comes from http://HOST, which is no host but this script; TEST_SERVER_CERT is the certificate to trust for wss://

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate, createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import puppeteer from "puppeteer-core";

const [url, host, expected] = process.argv.slice(2);
const here = (file) => readFileSync(new URL(file, import.meta.url));
const files = {
  "/": ["text/html", '<!doctype html><script src="/mqtt.js"></script><script type="module" src="/page.js"></script>'],
  "/mqtt.js": ["text/javascript", here("node_modules/mqtt/dist/mqtt.min.js")],
  "/page.js": ["text/javascript", here("page.mjs")],
};
const server = createServer((request, response) => {
  const [type, body] = files[request.url] ?? ["text/plain", ""];
  response.writeHead(200, { "content-type": type }).end(body);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const { publicKey } = new X509Certificate(readFileSync(process.env.TEST_SERVER_CERT));
const trusted = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
const browser = await puppeteer.launch({
  executablePath: execFileSync("which", ["chromium"], { encoding: "utf8" }).trim(),
  args: [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    `--host-resolver-rules=MAP ${host} 127.0.0.1:${server.address().port}`,
    `--ignore-certificate-errors-spki-list=${trusted}`,
  ],
});
try {
  const page = await browser.newPage();
  page.on("console", (message) => console.error(`page: ${message.text()}`));
  await page.goto(`http://${host}/`);
  await page.waitForFunction(() => window.mqtt && window.conversation);
  const options = JSON.parse(process.env.TEST_CONNECT_OPTIONS ?? "{}");
  const outcome = await page.evaluate((url, options) => window.conversation(url, options), url, options);
  assert.equal(outcome, expected);
} finally {
  await browser.close();
  server.close();
}

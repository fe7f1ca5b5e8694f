// The page: keys in, sealed messages out and in. What sealing is stands in sealing.js.

import { KeyRing } from "./keys.js";
import { Opener, seal } from "./sealing.js";

const MESSAGES_SHOWN_MAX = 200;

const ring = new KeyRing();
const opener = new Opener(ring);
const element = (id) => document.getElementById(id);
let client;

/** Calls `action` with the form's fields when it is sent; what goes wrong is said at the top. */
function onSubmit(id, action) {
  element(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await action(Object.fromEntries(new FormData(event.target)));
    } catch (error) {
      say(error.message);
    }
  });
}

function say(text) {
  element("status").textContent = text;
}

function line(list, text, kind) {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = kind;
  element(list).append(item);
  while (element(list).children.length > MESSAGES_SHOWN_MAX) element(list).firstChild.remove();
}

onSubmit("keys", async ({ name, jwk }) => {
  if (jwk.trim()) {
    await ring.add(name, jwk);
  } else {
    element("public").value = await ring.make(name);
    element("public").hidden = false;
  }
  const isOwn = [ring.agreeing, ring.shared, ring.signing].some((keys) => KeyRing.named(keys, name));
  line("ring", `${name}${isOwn ? " (yours)" : ""}`, "key");
});

onSubmit("connection", async ({ url, filter }) => {
  await client?.endAsync();
  client = await window.mqtt.connectAsync(url, { protocolVersion: 5, reconnectPeriod: 0 });
  client.on("close", () => say("The connection is lost."));
  let last = Promise.resolve();
  client.on("message", (topic, payload) => {
    // One after the other: opening takes different times, and messages are shown in the order in which they came.
    last = last.then(() => show(topic, payload));
  });
  const [granted] = await client.subscribeAsync(filter, { qos: 1 });
  if (granted.qos > 2) throw new Error(`the server does not let this page read ${filter}`);
  say(`Connected, reading ${filter}`);
});

onSubmit("message", async ({ topic, recipients, signer, text }) => {
  const names = recipients.split(/\s+/).filter(Boolean);
  const shared = names.length === 1 && KeyRing.named(ring.shared, names[0]);
  const found = shared ? [shared] : names.map((name) => KeyRing.named(ring.peers, name) ?? lacking(name, "to seal for"));
  const sealed = await seal(new TextEncoder().encode(text), {
    topic,
    recipients: found,
    isShared: Boolean(shared),
    signer: signer && (KeyRing.named(ring.signing, signer) ?? lacking(signer, "to sign with")),
  });
  if (!client) throw new Error("Connect first.");
  await client.publishAsync(topic, sealed, { qos: 1, properties: { contentType: "application/cose" } });
});

function lacking(name, purpose) {
  throw new Error(`There is no key ${purpose} with the name ${name}: add it first.`);
}

async function show(topic, payload) {
  try {
    const { text, sender } = await opener.open(payload, topic);
    line("messages", `${topic}: ${text} (${sender ? `signed by ${sender}` : "sender unknown"})`, "opened");
  } catch (error) {
    line("messages", `${topic}: not opened: ${error.message}`, "refused");
  }
}

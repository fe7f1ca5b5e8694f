// What a web page does with MQTT.js; runs in the browser.

const LIMIT_MS = 15_000;

/** "served" when all went as it should, "refused" when no connection came about; anything else is thrown. */
window.conversation = async (url, options) => {
  const client = window.mqtt.connect(url, {
    protocolVersion: 5,
    clientId: "browser",
    reconnectPeriod: 0,
    connectTimeout: LIMIT_MS,
    ...options,
  });
  client.on("error", () => {});
  const connected = await within(
    new Promise((resolve) => {
      client.once("connect", () => resolve(true));
      client.once("close", () => resolve(false));
    }),
    "the connection",
  );
  if (!connected) return "refused";
  const heard = [];
  let wake = () => {};
  client.on("message", (topic, payload, packet) => {
    heard.push({ topic, payload, packet });
    wake();
  });
  const message = async () => {
    while (heard.length === 0) await new Promise((resolve) => (wake = resolve));
    return heard.shift();
  };
  const [granted] = await within(client.subscribeAsync("browser/#", { qos: 2 }), "SUBACK");
  if (granted.qos !== 2) throw new Error(`granted ${granted.qos}`);
  for (const qos of [0, 1, 2]) {
    const sent = [];
    for (let number = 0; number < 200; number++) {
      sent.push(client.publishAsync(`browser/${qos}`, `${number}`, { qos }));
    }
    for (let number = 0; number < 200; number++) {
      const { topic, payload, packet } = await within(message(), `message ${number} at QoS ${qos}`);
      if (topic !== `browser/${qos}` || payload.toString() !== `${number}` || packet.qos !== qos) {
        throw new Error(`${topic} ${payload} at ${packet.qos}, expected ${number} at ${qos}`);
      }
    }
    await within(Promise.all(sent), `the end of what was published at QoS ${qos}`);
  }
  const big = new Uint8Array(1_048_576).map((_, index) => index % 251);
  await within(client.publishAsync("browser/big", big, { qos: 1 }), "PUBACK");
  const { payload } = await within(message(), "the big message");
  if (payload.length !== big.length || payload.some((byte, index) => byte !== big[index])) {
    throw new Error("the big message is another");
  }
  await within(client.endAsync(), "the end of the connection");
  return "served";
};

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${LIMIT_MS} ms for ${what}`)), LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

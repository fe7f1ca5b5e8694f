// What a user of MQTT.js does, against a server: node scenarios.mjs URL VERSION SCENARIO.
// URL is mqtt://, mqtts://, ws:// or wss://; TEST_CA is the authority to trust, TEST_CERT and TEST_KEY a client certificate.
// Exits with 0 when the server did what the scenario expects; otherwise the error says what differed.

import assert from "node:assert/strict";
import { Connection, within } from "./connection.mjs";

const [url, version, name] = process.argv.slice(2);
const connect = (clientId, options) => Connection.open(url, version, clientId, options);

const scenarios = {
  async qos_round_trips() {
    const [subscriber, publisher] = [await connect("qos-subscriber"), await connect("qos-publisher")];
    for (const granted of [0, 1, 2]) {
      const [answer] = await subscriber.subscribe(`qos/${granted}`, { qos: granted });
      assert.equal(answer.qos, granted);
      for (const sent of [0, 1, 2]) {
        await publisher.publish(`qos/${granted}`, `${sent} to ${granted}`, { qos: sent });
        await subscriber.expect(`qos/${granted}`, `${sent} to ${granted}`, {
          qos: Math.min(sent, granted),
          retain: false,
        });
      }
    }
    await subscriber.unsubscribe("qos/1");
    await subscriber.subscribe("qos/fence", { qos: 1 });
    await publisher.publish("qos/1", "nobody", { qos: 1 });
    await subscriber.expectNothingBefore("qos/fence");
    await subscriber.disconnect();
    await publisher.disconnect();
  },

  /** A thousand messages at each QoS, twenty at a time, arrive complete and in order. */
  async order() {
    const [subscriber, publisher] = [await connect("order-subscriber"), await connect("order-publisher")];
    await subscriber.subscribe("order/#", { qos: 2 });
    for (const qos of [0, 1, 2]) {
      for (let first = 0; first < 1000; first += 20) {
        const numbers = Array.from({ length: 20 }, (_, index) => `${first + index}`);
        const sent = numbers.map((number) => publisher.publish(`order/${qos}`, number, { qos }));
        for (const number of numbers) await subscriber.expect(`order/${qos}`, number, { qos });
        await Promise.all(sent);
      }
    }
    await subscriber.disconnect();
    await publisher.disconnect();
  },

  async retained() {
    const publisher = await connect("retained-publisher");
    await publisher.publish("retained/lamp", "on", { qos: 1, retain: true });
    await publisher.publish("retained/door", "shut", { qos: 1, retain: true });
    await publisher.publish("retained/door", "", { qos: 1, retain: true });
    const late = await connect("retained-late");
    await late.subscribe("retained/#", { qos: 1 });
    await late.expect("retained/lamp", "on", { qos: 1, retain: true });
    await late.subscribe("fence", { qos: 1 });
    await late.expectNothingBefore("fence");
    await publisher.publish("retained/lamp", "off", { qos: 1, retain: true });
    await late.expect("retained/lamp", "off", { qos: 1, retain: false });
    await publisher.publish("retained/lamp", "", { qos: 1, retain: true });
    await late.disconnect();
    await publisher.disconnect();
  },

  async will() {
    const watcher = await connect("will-watcher");
    await watcher.subscribe("will/#", { qos: 1 });
    const will = { topic: "will/gone", payload: Buffer.from("lost"), qos: 1, retain: false };
    await (await connect("will-cut", { will })).cut();
    await watcher.expect("will/gone", "lost", { qos: 1 });
    await (await connect("will-polite", { will })).disconnect();
    await watcher.expectNothingBefore("will/fence");
    await watcher.disconnect();
  },

  /** Messages at QoS 1 and 2 wait for a session that is away, in order; the session is taken up again. */
  async offline_queue() {
    const options = { clean: false, ...(version === "5" && { properties: { sessionExpiryInterval: 300 } }) };
    const [away, publisher] = [await connect("offline-reader", options), await connect("offline-publisher")];
    assert.equal(Boolean(away.connack.sessionPresent), false);
    await away.subscribe("offline/#", { qos: 2 });
    await away.disconnect();
    for (let number = 0; number < 20; number++) {
      await publisher.publish("offline/news", `${number}`, { qos: 1 + (number % 2) });
    }
    const back = await connect("offline-reader", options);
    // The CONNACK of MQTT 3.1 has no Session Present.
    assert.ok(back.connack.sessionPresent || version === "3.1");
    const heard = { 1: [], 2: [] };
    for (let count = 0; count < 20; count++) {
      const { payload, packet } = await back.message();
      heard[packet.qos].push(Number(payload));
    }
    const even = Array.from({ length: 10 }, (_, index) => 2 * index);
    assert.deepEqual(heard, { 1: even, 2: even.map((number) => number + 1) });
    await back.disconnect();
    const afresh = await connect("offline-reader", { clean: true });
    assert.equal(Boolean(afresh.connack.sessionPresent), false);
    await afresh.disconnect();
    await publisher.disconnect();
  },

  /** MQTT 5: what the application says about a message arrives unchanged; options and identifiers work. */
  async properties() {
    const [subscriber, publisher] = [await connect("properties-subscriber"), await connect("properties-publisher")];
    await subscriber.subscribe("properties/#", { qos: 1, nl: true, properties: { subscriptionIdentifier: 77 } });
    await subscriber.publish("properties/own", "not for its own publisher", { qos: 1 });
    await publisher.publish("properties/question", "why", {
      qos: 1,
      properties: {
        payloadFormatIndicator: true,
        messageExpiryInterval: 60,
        contentType: "text/plain",
        responseTopic: "properties/answers",
        correlationData: Buffer.from([0, 1, 255]),
        userProperties: { b: ["2", "ü"], a: "1" },
      },
    });
    const { properties } = await subscriber.expect("properties/question", "why", { qos: 1 });
    assert.equal(properties.contentType, "text/plain");
    assert.equal(properties.responseTopic, "properties/answers");
    assert.deepEqual(properties.correlationData, Buffer.from([0, 1, 255]));
    assert.equal(properties.payloadFormatIndicator, true);
    assert.ok(properties.messageExpiryInterval > 0 && properties.messageExpiryInterval <= 60);
    assert.deepEqual({ ...properties.userProperties }, { b: ["2", "ü"], a: "1" });
    assert.equal(properties.subscriptionIdentifier, 77);
    await subscriber.disconnect();
    await publisher.disconnect();
  },

  async large_payload() {
    const [subscriber, publisher] = [await connect("large-subscriber"), await connect("large-publisher")];
    await subscriber.subscribe("large", { qos: 1 });
    for (const size of [127, 128, 16_383, 16_384, 2_097_152, 10_000_000]) {
      const payload = Buffer.alloc(size, Buffer.from(Array.from({ length: 251 }, (_, byte) => byte)));
      await publisher.publish("large", payload, { qos: 1 });
      await subscriber.expect("large", payload, { qos: 1 });
    }
    await subscriber.disconnect();
    await publisher.disconnect();
  },

  /** A second connection of a client ends the first. */
  async takeover() {
    const first = await connect("takeover");
    const second = await connect("takeover");
    await within(first.closed, "the end of the older connection");
    await second.subscribe("takeover", { qos: 1 });
    await second.expectNothingBefore("takeover");
    await second.disconnect();
  },

  /** Each message of a group comes to one member, in order for each, and all get some. */
  async shared() {
    const members = [await connect("worker-0"), await connect("worker-1"), await connect("worker-2")];
    for (const member of members) await member.subscribe("$share/workers/jobs/#", { qos: 1 });
    const publisher = await connect("shared-publisher");
    const heard = members.map(() => []);
    let count = 0;
    const all = new Promise((resolve) => {
      members.forEach(({ client }, index) =>
        client.on("message", (_, payload) => {
          heard[index].push(Number(payload));
          if (++count === 60) resolve();
        }),
      );
    });
    for (let number = 0; number < 60; number++) {
      await publisher.publish(`jobs/${number % 7}`, `${number}`, { qos: 1 });
    }
    await within(all, "60 messages");
    const ascending = (numbers) => numbers.toSorted((a, b) => a - b);
    assert.deepEqual(ascending(heard.flat()), Array.from({ length: 60 }, (_, number) => number));
    for (const numbers of heard) assert.ok(numbers.length > 0);
    for (const numbers of heard) assert.deepEqual(numbers, ascending(numbers));
    for (const client of [...members, publisher]) await client.disconnect();
  },

  /** The URL is ann's; she may do what she likes under ann/ and nothing elsewhere, and so bob under bob/. */
  async users() {
    const ann = await connect("ann-client");
    const bob = await Connection.open(url.replace("ann:", "bob:"), version, "bob-client");
    await ann.subscribe("ann/#", { qos: 1 });
    await bob.subscribe("bob/#", { qos: 1 });
    await assert.rejects(ann.subscribe("bob/#", { qos: 1 }), /authorized/i);
    await assert.rejects(ann.subscribe("#", { qos: 1 }), /authorized/i);
    await ann.publish("ann/diary", "mine", { qos: 1 });
    await ann.expect("ann/diary", "mine", { qos: 1 });
    await assert.rejects(ann.publish("bob/diary", "not hers", { qos: 1 }), /authorized/i);
    await bob.expectNothingBefore("bob/fence");
    await ann.expectNothingBefore("ann/fence");
    await ann.disconnect();
    await bob.disconnect();
    for (const wrong of [url.replace("ann:", "ann:x"), url.replace("ann:", "eve:")]) {
      await assert.rejects(Connection.open(wrong, version, "wrong"), /authorized|password/i);
    }
  },
};

await scenarios[name]();

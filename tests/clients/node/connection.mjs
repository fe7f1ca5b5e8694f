// An MQTT.js connection that a scenario can wait on: every wait has a deadline.

import { readFileSync } from "node:fs";
import mqtt from "mqtt";

export const LIMIT_MS = 15_000;
const LEVELS = { "3.1": 3, "3.1.1": 4, 5: 5 };

export class Connection {
  /** Connects and returns when CONNACK has said success. */
  static async open(url, version, clientId, options = {}) {
    const connection = new Connection();
    const file = (name) => process.env[name] && readFileSync(process.env[name]);
    connection.client = mqtt.connect(url, {
      ca: file("TEST_CA"),
      cert: file("TEST_CERT"),
      key: file("TEST_KEY"),
      protocolId: version === "3.1" ? "MQIsdp" : "MQTT",
      protocolVersion: LEVELS[version],
      clientId,
      reconnectPeriod: 0,
      keepalive: 30,
      ...options,
    });
    connection.client.on("message", (topic, payload, packet) => connection.#hear({ topic, payload, packet }));
    connection.client.on("error", (error) => (connection.error = error));
    connection.closed = new Promise((resolve) => connection.client.once("close", resolve));
    connection.connack = await within(
      new Promise((resolve, reject) => {
        connection.client.once("connect", resolve);
        connection.client.once("error", reject);
      }),
      "CONNACK",
    );
    return connection;
  }

  #heard = [];
  #waiting = [];

  #hear(message) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(message);
    else this.#heard.push(message);
  }

  /** The next message, in the order of arrival. */
  message() {
    if (this.#heard.length > 0) return Promise.resolve(this.#heard.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), "a message");
  }

  async expect(topic, payload, { qos, retain } = {}) {
    const heard = await this.message();
    const expected = Buffer.from(payload);
    if (heard.topic !== topic) throw new Error(`topic ${heard.topic}, expected ${topic}`);
    if (!heard.payload.equals(expected)) {
      throw new Error(`payload ${heard.payload.subarray(0, 40)}, expected ${expected.subarray(0, 40)}`);
    }
    if (qos !== undefined && heard.packet.qos !== qos) throw new Error(`QoS ${heard.packet.qos}, expected ${qos}`);
    if (retain !== undefined && heard.packet.retain !== retain) {
      throw new Error(`RETAIN ${heard.packet.retain}, expected ${retain}`);
    }
    return heard.packet;
  }

  /** All that was sent to this client before now is what came: a message to itself comes next. */
  async expectNothingBefore(topic) {
    await this.publish(topic, "fence", { qos: 1 });
    await this.expect(topic, "fence");
  }

  subscribe(filter, options = { qos: 0 }) {
    return within(this.client.subscribeAsync(filter, options), "SUBACK");
  }

  unsubscribe(filter) {
    return within(this.client.unsubscribeAsync(filter), "UNSUBACK");
  }

  publish(topic, payload, options = {}) {
    return within(this.client.publishAsync(topic, payload, options), "the end of the publish exchange");
  }

  disconnect() {
    return within(this.client.endAsync(), "the end of the connection");
  }

  /** Ends the connection without DISCONNECT, as a network failure does. */
  cut() {
    this.client.stream.destroy();
    return within(this.closed, "the end of the connection");
  }
}

export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${LIMIT_MS} ms for ${what}`)), LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

"""A member of a group: python group_member.py PORT FILTER. Prints each payload on a line of its own, until it is killed."""

import sys

import paho.mqtt.client as mqtt


def main():
    port, shared_filter = int(sys.argv[1]), sys.argv[2]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe(shared_filter, qos=1)
    client.on_message = lambda client, user, message: print(message.payload.decode(), flush=True)
    client.connect("127.0.0.1", port)
    client.loop_forever()


main()

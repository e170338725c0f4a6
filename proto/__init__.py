"""What crosses the network: schema, adapter layout, chunked payloads, codecs, and the event log.

The shared language of server and client. Numpy, protobuf, safetensors and entropy coders, in secagg
cryptography; nothing of ours.
"""

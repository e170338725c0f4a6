proto/federation_pb2.py: proto/federation.proto
	.venv/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $<

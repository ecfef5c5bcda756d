#!/bin/sh
# Regenerates cri/api/gen from cri/api/api.proto (k8s.io/cri-api v0.37.2) and otlp.proto with buf and ts-proto; run after the proto changes.
set -eu
cd "$(dirname "$0")/.."
rm -rf cri/api/gen && mkdir -p cri/api/gen
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
cat >"$work/buf.gen.yaml" <<YAML
version: v2
plugins:
  - local: $PWD/node_modules/.bin/protoc-gen-ts_proto
    out: $PWD/cri/api/gen
    opt: [outputServices=grpc-js, forceLong=bigint, enumsAsLiterals=true, esModuleInterop=true, useOptionals=none, importSuffix=.ts, outputJsonMethods=false, outputPartialMethods=true, oneof=unions-value, outputClientImpl=true]
YAML
# Without comments in the image the generated file is a third of the size; the proto beside it keeps them.
node_modules/.bin/buf build cri/api --exclude-source-info -o "$work/api.binpb"
node_modules/.bin/buf generate "$work/api.binpb" --template "$work/buf.gen.yaml"
ls -l cri/api/gen

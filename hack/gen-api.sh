#!/bin/sh
# Regenerates cri/api/gen from cri/api/*.proto (k8s.io/cri-api v0.37.2, OTLP) and cri/nri/gen from cri/nri/*.proto (NRI v0.12.3) with buf and ts-proto;
# run after a proto changes.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

# generate FOLDER SERVICES: FOLDER/*.proto → FOLDER/gen
generate() {
  rm -rf "$1/gen" && mkdir -p "$1/gen"
  cat >"$work/buf.gen.yaml" <<YAML
version: v2
plugins:
  - local: $PWD/node_modules/.bin/protoc-gen-ts_proto
    out: $PWD/$1/gen
    opt: [outputServices=$2, forceLong=bigint, enumsAsLiterals=true, esModuleInterop=true, useOptionals=none, importSuffix=.ts, outputJsonMethods=false, outputPartialMethods=true, oneof=unions-value, outputClientImpl=true]
YAML
  # Without comments in the image the generated file is a third of the size; the proto beside it keeps them.
  node_modules/.bin/buf build "$1" --exclude-source-info -o "$work/protos.binpb"
  node_modules/.bin/buf generate "$work/protos.binpb" --template "$work/buf.gen.yaml"
  ls -l "$1/gen"
}

generate cri/api grpc-js
# ttrpc is not gRPC: of its services only the methods' names and messages are of use.
generate cri/nri generic-definitions

#!/bin/sh
# Writes requirements.lock (what runs) and requirements-dev.lock (that and what tests, benchmarks and extras need).
# Without torch, which the Makefile installs by range, and without the name of any package index.
set -eu
compile=$1

write() {
    out=$1
    shift
    "$compile" --quiet --generate-hashes --no-header --no-annotate --strip-extras \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
        --unsafe-package torch --unsafe-package torchvision --unsafe-package setuptools --unsafe-package pip \
        "$@" --output-file "$out.new" pyproject.toml
    {
        echo "# Written by \`make lock\` from pyproject.toml. torch and torchvision are installed by range: see the Makefile."
        sed '/^$/d; /^#/d' "$out.new"
    } >"$out"
    rm "$out.new"
}

# What is tested first: what runs is a part of it, so that a tool of the tests may hold a library back for both.
write requirements-dev.lock --extra demo --extra postgres --extra s3 --extra openvino --extra large --extra otel --extra test \
    --extra benchmark --extra milvus --extra docs --extra mcp
write requirements.lock --constraint requirements-dev.lock --extra demo --extra postgres --extra s3 --extra openvino --extra large \
    --extra otel

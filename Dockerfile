# One image for both halves: the API and the worker. No root, no compiler, no package cache in the last layer.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /app
# The address of an index with other builds of torch, such as the one for CPUs; empty takes the default build.
# docker-compose.yml passes it on, and docs/operate.md tells where to find it.
ARG TORCH_INDEX=
RUN if [ -z "$TORCH_INDEX" ] && [ "$(uname -m)" = x86_64 ]; then \
        echo "TORCH_INDEX is empty: this image gets torch for CUDA, about 3 GB. For CPUs see docs/operate.md, Containers."; \
    fi
RUN /app/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch >= 2.10, < 2.14" "torchvision >= 0.25, < 0.29"
COPY requirements.lock ./
RUN /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY client ./client
COPY store ./store
COPY model ./model
COPY index ./index
COPY service ./service
COPY worker ./worker
COPY demo ./demo
RUN /app/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="pictoglot" \
      org.opencontainers.image.description="A multilingual picture search that learns languages" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/pictoglot/pictoglot" \
      org.opencontainers.image.documentation="https://github.com/pictoglot/pictoglot/tree/main/docs"
# pg_dump and pg_restore, for `pictoglot backup`
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-client && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home --home-dir /data pictoglot && install -d -o pictoglot -m 0700 /backups
COPY --from=build /app /app
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

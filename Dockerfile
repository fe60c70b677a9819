# One image for both halves: the API and the worker. No root, no compiler, no package cache in the last layer.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /app
# TORCH_INDEX may point pip to a CPU or CUDA build of torch; empty takes the default one.
ARG TORCH_INDEX=
RUN /app/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch >= 2.10, < 2.14" "torchvision >= 0.25, < 0.29"
COPY requirements.lock ./
RUN /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY model ./model
COPY index ./index
COPY service ./service
COPY worker ./worker
COPY demo ./demo
RUN /app/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /data pictoglot
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PICTOGLOT_HOME=/data PICTOGLOT_HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
USER pictoglot
WORKDIR /data
VOLUME /data
EXPOSE 8321
# SIGTERM drains the API and lets the worker write a checkpoint: docs/operations.md
STOPSIGNAL SIGTERM
ENTRYPOINT ["pictoglot"]
CMD ["serve"]

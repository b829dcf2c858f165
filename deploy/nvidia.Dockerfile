# glass-rt serve on an NVIDIA GPU, for a host with the NVIDIA Container Toolkit. From the repository's root:
#   docker build -f deploy/nvidia.Dockerfile -t glass-rt:nvidia .
#   docker run --rm --gpus 1 --read-only --tmpfs /tmp --cap-drop ALL --memory 8g -p 127.0.0.1:8000:8000 \
#     -v "$PWD/bundles/vit_fp16:/engine:ro" glass-rt:nvidia
# LIBRARY is the one that built the engines, in the same version (`glass-rt inspect`): only that one reads them. For
# TensorRT itself: --build-arg EXTRAS=tensorrt,cuda,jpeg,serve --build-arg LIBRARY=tensorrt==VERSION
FROM python:3.12.12-slim-bookworm AS install
ARG EXTRAS=tensorrt-rtx,cuda,jpeg,serve
ARG LIBRARY=tensorrt_rtx==1.7.1.116
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY glass_rt glass_rt
COPY export export
COPY engines/glass_engines engines/glass_engines
COPY calibration calibration
COPY benchmarks/glass_bench benchmarks/glass_bench
RUN python -m venv /opt/glass && /opt/glass/bin/pip install --no-cache-dir ".[$EXTRAS]" "$LIBRARY"

# No CUDA base image: the packages bring CUDA's libraries, the host its driver.
FROM python:3.12.12-slim-bookworm AS base
COPY --from=install /opt/glass /opt/glass
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PATH=/opt/glass/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD \
  ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["glass-rt"]
CMD ["serve", "--engine", "/engine", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS baked
# hadolint ignore=DL3022 # a build context, which the command line names
COPY --from=bundle . /engine

FROM base AS runtime

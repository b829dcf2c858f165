# glass-rt serve on a CPU. From the repository's root, with a bundle that `glass-rt build` wrote:
#   docker build -f deploy/cpu.Dockerfile -t glass-rt:cpu .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --memory 4g -p 127.0.0.1:8000:8000 \
#     -v "$PWD/bundles/vit_b16:/engine:ro" glass-rt:cpu
# With the bundle inside:
#   docker build -f deploy/cpu.Dockerfile --target baked --build-context bundle=bundles/vit_b16 -t glass-rt:vit_b16 .
FROM python:3.12.12-slim-bookworm AS install
ARG EXTRAS=cpu,openvino,jpeg,serve
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY glass_rt glass_rt
COPY export export
COPY engines/glass_engines engines/glass_engines
COPY calibration calibration
COPY benchmarks/glass_bench benchmarks/glass_bench
# Of the packages, what judging on a CPU has no use for goes: their tests, headers, and of OpenVINO the plugins for other
# devices and the readers of other formats than its own.
RUN python -m venv /opt/glass && /opt/glass/bin/pip install --no-cache-dir ".[$EXTRAS]" \
 && packages=$(/opt/glass/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])") \
 && /opt/glass/bin/pip uninstall --yes --quiet pip \
 && find "$packages" -depth -type d \( -name tests -o -name include -o -name __pycache__ \) -exec rm -r {} + \
 && if [ -d "$packages/openvino" ]; then find "$packages/openvino/libs" \( -name cache.json \
      -o -name '*_plugin.so' ! -name '*_cpu_plugin.so' -o -name '*_frontend.so*' ! -name '*_ir_frontend.so*' \) -delete; fi

FROM python:3.12.12-slim-bookworm AS base
COPY --from=install /opt/glass /opt/glass
ENV PATH=/opt/glass/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
  ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["glass-rt"]
CMD ["serve", "--engine", "/engine", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS baked
# hadolint ignore=DL3022 # a build context, which the command line names
COPY --from=bundle . /engine

FROM base AS runtime

# cDAL as a container: the command line, and the server for browsers, 3D Slicer and QuPath.
#
#   docker build -t cdal .                                            # PyTorch's default build: CUDA on Linux
#   docker build -t cdal:cpu --build-arg TORCH_INDEX=ADDRESS .        # ADDRESS of the wheels for CPU, from PyTorch's own page
#   docker run --rm -v "$PWD":/data cdal predict hippocampus scan.nii.gz
#   docker run --gpus all -p 127.0.0.1:8000:8000 -e CDAL_TOKEN=... -v "$PWD":/data cdal serve hippocampus --host 0.0.0.0
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY models models
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH="torch>=2.8"
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
# PyTorch first: what follows keeps the build that was chosen. TORCH is a range, or a version.
# hadolint ignore=DL3013
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
COPY --from=wheel /wheels /wheels
RUN pip install "$(find /wheels -name 'cdal-*.whl')[serve,onnx,slides]" \
    && useradd --create-home --uid 1000 cdal \
    && install --directory --owner cdal /data
USER 1000
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Healthy while the server answers; a container that runs another command has no server to ask.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["cdal"]
CMD ["--help"]

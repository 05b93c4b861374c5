# syntax=docker/dockerfile:1
# docker build --tag imitate .                               for CPUs: the viewer, predictions, data preparation
# docker build --tag imitate:cuda --target cuda .            for NVIDIA GPUs: training, too
# Other extras of the package, here PyTorch for CPUs: --build-arg EXTRAS=train. docs/containers.md has the commands to run them.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS base
ENV PATH=/opt/imitate/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 1000 --create-home imitate && install --directory --owner imitate /work

FROM base AS build
# The file system of the viewer is read-only: Python could not keep what it compiles
ENV UV_COMPILE_BYTECODE=1
COPY pyproject.toml README.md LICENSE constraints.txt /src/
COPY src /src/src
COPY recipes /src/recipes
RUN python -m venv /opt/build && /opt/build/bin/python -m pip install --constraint /src/constraints.txt hatchling uv
RUN cd /src && /opt/build/bin/python -m hatchling build -t wheel -d /dist
RUN python -m venv --without-pip /opt/imitate

FROM build AS build-cpu
ARG EXTRAS=""
ENV UV_TORCH_BACKEND=cpu
RUN /opt/build/bin/uv pip install --no-cache --python /opt/imitate/bin/python --constraint /src/constraints.txt "imitate-cxr[$EXTRAS] @ $(ls /dist/*.whl)"

FROM build AS build-cuda
ARG EXTRAS=train,lora
RUN /opt/build/bin/uv pip install --no-cache --python /opt/imitate/bin/python --constraint /src/constraints.txt "imitate-cxr[$EXTRAS] @ $(ls /dist/*.whl)"

FROM base AS run
WORKDIR /work
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["imitate"]
# The viewer of the model that is mounted at /model; IMITATE_TOKEN or IMITATE_PASSWORD says who may look.
CMD ["serve", "--model", "/model", "--host", "0.0.0.0"]
# Any response will do, also that a password is needed. Other commands: docker run --no-healthcheck
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/'); raise SystemExit(c.getresponse().status >= 500)"]

FROM run AS cuda
# The wheels bring CUDA; the driver comes from the host. torch.compile needs a compiler.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY --from=build-cuda /opt/imitate /opt/imitate
USER imitate
RUN COLUMNS=200 imitate doctor > /tmp/doctor && grep -q "decodes JPEG, lossless JPEG, JPEG-LS, JPEG 2000 and RLE" /tmp/doctor

FROM run AS cpu
COPY --from=build-cpu /opt/imitate /opt/imitate
USER imitate
RUN COLUMNS=200 imitate doctor > /tmp/doctor && grep -q "decodes JPEG, lossless JPEG, JPEG-LS, JPEG 2000 and RLE" /tmp/doctor

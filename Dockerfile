# Trains and serves k-nearest neighbours: `docker run IMAGE train`, `docker run IMAGE serve`.
#
# FAISS=faiss-gpu, the default, brings CUDA's libraries and runs on machines without a GPU too;
# FAISS=faiss-cpu leaves them out, most of the image.

ARG BASE=debian:trixie-slim

FROM ${BASE} AS packages
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv
# pip stays in an environment of its own and installs into the other, which is the one that ships.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/knn-container
ENV PIP_PYTHON=/opt/knn-container/bin/python \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# For those who have a package index of their own: --build-arg PIP_INDEX_URL=...
ARG PIP_INDEX_URL
ARG FAISS=faiss-gpu
RUN case "${FAISS}" in \
        faiss-gpu|faiss-cpu) ;; \
        *) echo "FAISS must be faiss-gpu or faiss-cpu, not '${FAISS}'" >&2; exit 1 ;; \
    esac
COPY requirements/cpu.txt requirements/gpu.txt /requirements/
RUN /opt/pip/bin/pip install --require-hashes --no-deps --only-binary :all: \
        --requirement "/requirements/${FAISS#faiss-}.txt" \
    && find /opt/knn-container -type d -name tests -prune -exec rm -r {} +

FROM packages AS project
# A compiler for what is written in C, and the build backend; this stage does not ship.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev
COPY docker/build.txt /requirements/
RUN /opt/pip/bin/pip install --require-hashes --no-deps --requirement /requirements/build.txt
COPY LICENSE README.md pyproject.toml /project/
COPY src /project/src
# Into a tree of its own, so that a change here makes a small layer and leaves the large one alone.
RUN /opt/pip/bin/pip install --no-deps --no-build-isolation --root /installed /project

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
COPY --from=packages /opt/knn-container /opt/knn-container
COPY --from=project /installed /
ENV PATH=/opt/knn-container/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# How an image asks NVIDIA's container runtime, where that is the engine's default one, for all GPUs and for the parts
# of the driver that compute; `--gpus` asks for its own choice, and elsewhere this means nothing.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# cuBLAS: never fewer bits than float32 has (a trial at start checks it), and the same bits in every run.
ENV NVIDIA_TF32_OVERRIDE=0 \
    CUBLAS_WORKSPACE_CONFIG=:4096:8
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="knn-container" \
      org.opencontainers.image.description="Trains and serves k-nearest neighbours in place of SageMaker's built-in k-NN" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true" \
      com.amazonaws.sagemaker.capabilities.multi-models="true"
EXPOSE 8080
# The exec form makes the program process 1, which gets the SIGTERM of `docker stop`.
ENTRYPOINT ["knn-container"]
CMD ["train"]

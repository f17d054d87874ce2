# One image for every role: docker run pacsight scp | worker | doctor | …
FROM python:3.12-slim AS build

WORKDIR /src
# A CPU build of torch is smaller by gigabytes: --build-arg PIP_EXTRA_INDEX_URL=<its index>
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# The dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY pacsight pacsight
COPY viewer_api viewer_api
COPY scp scp
COPY inference inference
COPY dicom_out dicom_out
COPY ledger ledger
COPY training training
RUN pip install --no-deps .

FROM python:3.12-slim

# openvino and torch need the OpenMP runtime.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home pacsight \
    && install --directory --owner pacsight --mode 750 /var/lib/pacsight
COPY --from=build /opt/venv /opt/venv
COPY checkpoints /opt/pacsight/checkpoints

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    PACSIGHT_DATA_DIR=/var/lib/pacsight \
    PACSIGHT_MODELS_DIR=/opt/pacsight/checkpoints
WORKDIR /var/lib/pacsight
USER pacsight
VOLUME /var/lib/pacsight
EXPOSE 11112 8080
ENTRYPOINT ["pacsight"]
CMD ["serve"]

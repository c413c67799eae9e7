# A container in which the suite runs on emulated cards, on any x86-64 or aarch64 machine.
# docker build -f docker/emulated.Dockerfile -t npu-conformance-emulated .
# docker run --rm --shm-size=2g npu-conformance-emulated pytest -m single_npu
FROM python:3.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ git make && rm -rf /var/lib/apt/lists/*
WORKDIR /suite
COPY requirements.txt requirements-emulated.txt requirements-dev.txt ./
RUN pip install --no-cache-dir -r requirements-dev.txt --extra-index-url https://download.pytorch.org/whl/cpu
COPY . .
RUN python -m emulator --build
ENTRYPOINT ["python", "-m", "emulator"]
CMD ["pytest", "-m", "single_npu"]

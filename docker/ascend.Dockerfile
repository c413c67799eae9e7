# A container in which the suite runs on Ascend cards. CANN comes with the base image; the driver is the host's and is mounted.
# docker build -f docker/ascend.Dockerfile --build-arg CANN_IMAGE=... --build-arg TORCH=2.12.0 --build-arg TORCH_NPU=2.12.0 -t npu-conformance .
# The pair must belong to the image's CANN: fixtures/doctor/stack.toml has the table, `pytest --doctor` compares.
ARG CANN_IMAGE=quay.io/ascend/cann:9.1.0-910b-ubuntu22.04-py3.12
FROM ${CANN_IMAGE}

ARG TORCH=2.12.0
ARG TORCH_NPU=2.12.0

SHELL ["/bin/bash", "-c"]
WORKDIR /suite
COPY requirements.txt .
# numpy and the like are what torch_npu's own installation guide asks for beside the pair, in whatever version fits it.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir torch==${TORCH} torch_npu==${TORCH_NPU} pyyaml decorator scipy attrs && \
    pip install --no-cache-dir -r requirements.txt
COPY . .

# CANN's variables, in every shell that the container starts, also those of `docker exec` and of CI steps; they expand there.
# hadolint ignore=SC2016
RUN printf '%s\n' 'for script in /usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/cann/set_env.sh; do' \
    '    if [ -f "$script" ]; then source "$script"; break; fi' 'done' > /etc/profile.d/cann.sh
ENV BASH_ENV=/etc/profile.d/cann.sh
ENV LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64/driver:${LD_LIBRARY_PATH}
ENTRYPOINT ["/bin/bash", "-c", "exec \"$@\"", "--"]
CMD ["pytest", "--doctor"]

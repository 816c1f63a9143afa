# The demo on a CPU: docker build -t lungsound . && docker run --rm -v "$PWD:/data" lungsound
# Another command: docker run --rm -v "$PWD:/data" lungsound predict outputs/RUN breath.wav
FROM python:3.11-slim
COPY pyproject.toml README.md LICENSE constraints.txt /src/
COPY conf /src/conf
COPY lungsound /src/lungsound
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu 'torch>=2.11,<2.15' \
    && sed '/^torch==/d' /src/constraints.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt /src
WORKDIR /data
ENTRYPOINT ["lungsound"]
CMD ["train", "experiment=demo"]

# For a machine with an NVIDIA GPU: docker build -t llmrl . && docker run --gpus all -v "$PWD:/work" llmrl train lm=hf ...
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /llmrl
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY llmrl llmrl
RUN pip install --no-cache-dir --constraint constraints.txt .
ENV LLMRL_CACHE=/work/answers.sqlite3
WORKDIR /work
ENTRYPOINT ["llmrl"]

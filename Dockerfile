# One image for all of the studio's services (docker-compose.yml).

FROM node:22-slim AS opencode
WORKDIR /opt/opencode
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund

FROM python:3.13-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client ripgrep \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY --from=opencode /opt/opencode/node_modules ./node_modules
COPY . .
# The agents work with this account's rights: it owns the data and the repositories, and not the program.
RUN useradd --uid 1000 --create-home studio && install -d -o studio -g studio /data /repositories
USER studio
ENV STUDIO_HOME=/data PYTHONUNBUFFERED=1
EXPOSE 8000

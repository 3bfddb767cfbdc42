# One file for everything that runs: web, worker, scheduler (the same layers, another command), and the trainer.
#   docker build --target web --tag ira-web .        (without --target: the same)
#   docker build --target worker --tag ira-worker .
#   docker build --target scheduler --tag ira-scheduler .
#   docker build --target trainer --tag ira-trainer .    (TensorFlow, MLflow, DVC: several gigabytes; never serves)
# compose.yaml starts all of them; docs/container.md says what is in each layer, and why.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

# What every image has: Python, an account without rights, a folder for data. The root file system may be read-only:
# what is written goes to /data (a volume) and /tmp (memory).
FROM ${PYTHON} AS base
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=portal.settings.production \
    IRA_VAR_DIR=/data \
    IRA_STATIC_ROOT=/app/static \
    IRA_HEARTBEAT_FILE=/tmp/heartbeat
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin portal \
    && install -d -o portal -g portal -m 0700 /data
WORKDIR /app

# Python packages of what serves, without what no process of ours opens (container/prune says what and why).
FROM base AS packages
WORKDIR /build
COPY requirements/production.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes --only-binary=:all: -r production.txt
COPY container/prune.py ./
RUN python prune.py /venv

# The reading page's scripts. Node.js comes as a Python package, so that no second base image has to be trusted.
FROM ${PYTHON} AS scripts
WORKDIR /build/frontend
COPY requirements/node.txt ./
RUN python -m venv /node \
    && /node/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary=:all: -r node.txt
ENV PATH=/node/bin:$PATH
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN npm ci --omit=dev
COPY frontend/build.mjs ./
COPY frontend/src src
RUN node build.mjs

# The code, the static files as whitenoise sends them, and bytecode of the modules that serving loads.
FROM packages AS code
WORKDIR /app
COPY manage.py gunicorn.conf.py ./
COPY portal portal
COPY accounts accounts
COPY studies studies
COPY reports reports
COPY ml ml
COPY templates templates
COPY locale locale
COPY --from=scripts /build/portal/static/portal/build portal/static/portal/build
COPY container/healthy.py container/
COPY container/finish.py /build/
RUN python /build/finish.py

FROM base AS serving
COPY --from=code /venv /venv
COPY --from=code /app /app
COPY --from=code /bytecode /bytecode
ENV PYTHONPYCACHEPREFIX=/bytecode \
    IRA_WEB_BIND=0.0.0.0:8000
USER portal
VOLUME /data
# Web: does it answer? Worker and scheduler: have they shown themselves in the last minute?
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-S", "/app/container/healthy.py"]

FROM serving AS worker
CMD ["python", "manage.py", "qcluster"]

FROM serving AS scheduler
CMD ["python", "manage.py", "run_schedule"]

FROM serving AS web
EXPOSE 8000
CMD ["gunicorn", "portal.wsgi"]

# Training and the server of experiments. It has what serves too, because it reads labels from the portal's database.
FROM base AS trainer
COPY requirements/ml.txt requirements/production.txt /build/
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes \
        -r /build/ml.txt -r /build/production.txt
COPY --from=code /app /app
COPY pipelines pipelines
COPY dvc.yaml params.yaml params.quick.yaml ./
ENV HOME=/tmp
USER portal
VOLUME /data
CMD ["python", "manage.py", "trainer"]

# What is built when no target is named.
FROM web

# Web and worker from one image: what serves, without compiler, TensorFlow, MLflow or DVC.
# Build:  docker build -t radiology-portal .
# Web:    docker run --env-file .env -p 8000:8000 -v portal-data:/data radiology-portal
# Worker: docker run --env-file .env -v portal-data:/data radiology-portal python manage.py qcluster
FROM docker.io/library/python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements/production.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r production.txt

FROM docker.io/library/node:22-bookworm-slim AS frontend
WORKDIR /build/frontend
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN npm ci --omit=dev
COPY frontend/build.mjs ./
COPY frontend/src src
RUN node build.mjs

FROM docker.io/library/python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=portal.settings.production \
    IRA_VAR_DIR=/data
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin portal \
    && install -d -o portal -g portal /data
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY portal portal
COPY --from=frontend /build/portal/static/portal/build portal/static/portal/build
COPY accounts accounts
COPY studies studies
COPY reports reports
COPY ml ml
COPY templates templates
COPY locale locale
# Static files are collected at build time; the throw-away values satisfy the settings and reach no running process.
RUN DJANGO_SECRET_KEY=build IRA_AUDIT_KEY=build DJANGO_ALLOWED_HOSTS=build DATABASE_URL=sqlite:////tmp/build.sqlite3 EMAIL_URL=consolemail:// \
    IRA_VAR_DIR=/tmp/build IRA_STATIC_ROOT=/app/static python manage.py collectstatic --noinput --verbosity 0 \
    && rm -rf /tmp/build
ENV IRA_STATIC_ROOT=/app/static
USER portal
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen(urllib.request.Request('http://127.0.0.1:8000/healthz', headers={'X-Forwarded-Proto': 'https'}), timeout=4)"]
CMD ["gunicorn", "portal.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", "--access-logfile", "-"]

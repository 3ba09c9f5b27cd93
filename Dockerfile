# musicgenre serve with its default model, as docs/deploy.md tells:
#   docker build -t musicgenre .
# Everything that needs the network happens here; the container itself asks nobody.

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
# What else the models read that it will serve: "serve,features" for those on the table of features.
ARG EXTRAS=serve
RUN python -m venv /opt/musicgenre
RUN /opt/musicgenre/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[${EXTRAS}]"
ENV MUSICGENRE_CACHE=/opt/musicgenre/cache
RUN /opt/musicgenre/bin/musicgenre bundles get msd-musicnn
# Nothing is installed after this: 20 MB less.
RUN /opt/musicgenre/bin/python -m pip uninstall --yes --quiet --disable-pip-version-check setuptools pip

FROM python:3.11-slim
COPY --from=build /opt/musicgenre /opt/musicgenre
# The numbers of the user and group are what compose.yaml and the owner of the token's file go by.
RUN groupadd --gid 10001 musicgenre && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin musicgenre
USER 10001:10001
# Nothing is written but uploads, in TMPDIR: the root file system may be read-only.
ENV PATH=/opt/musicgenre/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MUSICGENRE_CACHE=/opt/musicgenre/cache \
    MUSICGENRE_CONFIG=/nonexistent \
    MUSICGENRE_SERVE_HOST=0.0.0.0 \
    MUSICGENRE_SERVE_PORT=8000 \
    MUSICGENRE_SERVE_TOKEN_FILE=/run/secrets/token \
    TMPDIR=/tmp
EXPOSE 8000
# The server then finishes what runs, for 30 s at most (--grace-s): let the engine wait for longer.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['MUSICGENRE_SERVE_PORT']}/readyz\", timeout=4)"]
ENTRYPOINT ["musicgenre", "serve"]

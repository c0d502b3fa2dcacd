# syntax=docker/dockerfile:1
# The bridge with both APIs, for one Claude subscription. See docs/install.md.

FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements/runtime.lock requirements/
RUN python -m venv /opt/bridge \
 && /opt/bridge/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY . .
# Builds in an isolated environment, whose packages pyproject.toml pins.
RUN /opt/bridge/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
# A new volume takes its owner from the folder in the image; without one, root owns it.
RUN useradd --create-home --uid 1000 bridge \
 && mkdir -p -m 700 /home/bridge/.claude /home/bridge/.local/state/claude-code-bridge \
 && chown -R bridge:bridge /home/bridge
COPY --from=build /opt/bridge /opt/bridge
USER bridge
ENV PATH=/opt/bridge/bin:$PATH \
    HOST=0.0.0.0 \
    PYTHONUNBUFFERED=1
# The login (.claude) and the state (keys, log, stored responses) belong to the user: mount them.
VOLUME ["/home/bridge/.claude", "/home/bridge/.local/state/claude-code-bridge"]
EXPOSE 8000 50051
# Not /readyz: what is unhealthy may be restarted, and that helps neither a login nor a usage limit.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/livez', timeout=4)"]
# SIGTERM drains: running answers may finish. Set a stop timeout longer than
# BRIDGE_DRAIN_DELAY and BRIDGE_DRAIN_SECONDS together.
STOPSIGNAL SIGTERM
CMD ["bridge", "serve", "--grpc", "--http"]

# syntax=docker/dockerfile:1
# The daemon alone. Settings come from the environment (AYB_JOBS_ENABLED=true, AYB_JOBS_DATABASE_URL=…) or from a file
# mounted at /etc/ayb-jobs/ayb-jobs.toml. It needs no shell, no capabilities and no writable folder:
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     -e AYB_JOBS_ENABLED=true -e AYB_JOBS_DATABASE_URL=postgresql://user@host/database ayb-jobs

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
# The environment is made without pip: nothing can be installed into the image that is shipped.
RUN python -m venv --without-pip /opt/ayb-jobs \
    && pip --python /opt/ayb-jobs/bin/python install --no-cache-dir --compile '.[all]'

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="ayb-jobs" \
      org.opencontainers.image.description="A job daemon with its queue in PostgreSQL" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/ayb-jobs /opt/ayb-jobs
ENV PATH="/opt/ayb-jobs/bin:$PATH" \
    PYTHONUNBUFFERED=1
WORKDIR /etc/ayb-jobs
USER 10001:10001
EXPOSE 8091
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["ayb-jobs", "health", "--this-host"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["ayb-jobs"]
CMD ["run"]

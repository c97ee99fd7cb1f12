# syntax=docker/dockerfile:1
# Optic's image: the program, the C library it is linked with, certificates; no shell, no root. It writes no file, so that a
# read-only file system serves.

FROM rust:1-slim-bookworm AS build
# rustls' ring and zstd bring C code.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /optic
COPY . .
# The caches outlive the build: a change of our code compiles our code alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/optic/target \
    cargo build --locked --release --bin optic \
 && strip --output-file=/usr/local/bin/optic target/release/optic

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Optic" \
      org.opencontainers.image.description="Runs Discord gateway shards and hands their events to RabbitMQ, none lost" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /usr/local/bin/optic /usr/local/bin/optic
# By number: Kubernetes' runAsNonRoot looks at that, and knows no names.
USER 65532:65532
# A container's loopback is of no use to anybody outside. The page then asks for HTTP_TOKEN.
ENV HTTP_ADDRESS=0.0.0.0:8080
# Health, page and metrics; 신경; amybot.
EXPOSE 8080 4000 4001
# Ready: the shards are connected and RabbitMQ confirms. Docker only shows it; an orchestrator that restarts what is unhealthy
# should ask /health/live, because a lost RabbitMQ is waited for and not cured by a restart.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/optic", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/optic"]
CMD ["run"]

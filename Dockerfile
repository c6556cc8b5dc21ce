# syntax=docker/dockerfile:1.7@sha256:a57df69d0ea827fb7266491f2813635de6f17269be881f696fbfdf2d83dda33e

# Images are pinned by their index digests: a tag can be moved. `docker buildx imagetools inspect NAME:TAG` prints a newer one.
FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
WORKDIR /src
ARG REVISION=unknown
COPY . .
# The caches outlive the layer and the image, so the binary is moved out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    OTPOST_COMMIT="${REVISION}" cargo build --locked --profile dist && cp target/dist/otpost /otpost

# glibc, CA certificates, a non-root user, and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="otpost" \
      org.opencontainers.image.description="A one-time-password gateway: requests from RabbitMQ, limits in Redis, delivery through Twilio" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /otpost /otpost
# The defaults listen on loopback, which nothing outside of a container can reach.
ENV HTTP_ADDR=0.0.0.0:8080 OPS_ADDR=0.0.0.0:9090
# By number: Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
EXPOSE 8080 9090
# For Docker alone; Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/otpost", "health"]
ENTRYPOINT ["/otpost"]
CMD ["worker"]

# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the layer and the image, so the binary is moved out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --profile dist && cp target/dist/otpost /otpost

# glibc, CA certificates, a non-root user, and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
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
ENTRYPOINT ["/otpost"]
CMD ["worker"]

# A small image: the binary, the C library, the system's certificate authorities, and nobody to log in as.
#
#   docker build -t bugle .
#   docker run -p 127.0.0.1:8000:8000 -v bugle-data:/var/lib/bugle bugle
#
# docs/operations.md has the rest.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive this build, so what is needed of them is copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package bugle-server --bin bugle \
 && install -D target/release/bugle /out/usr/local/bin/bugle \
 && strip --strip-debug /out/usr/local/bin/bugle \
 && install -D -m 644 LICENSE /out/usr/share/doc/bugle/LICENSE
RUN install -d -m 700 /data/bugle

# The C library of the same Debian, libgcc, certificate authorities; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /
# A new volume begins as a copy of this directory, owner and mode included.
COPY --from=build --chown=65532:65532 /data/ /var/lib/
ENV BUGLE__DATA__DIR=/var/lib/bugle \
    BUGLE__HTTP__LISTEN=0.0.0.0:8000
WORKDIR /var/lib/bugle
VOLUME /var/lib/bugle
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
# No HEALTHCHECK: GET /health is for whoever runs the container, and there is nothing in it that could ask.
ENTRYPOINT ["/usr/local/bin/bugle"]
CMD ["serve"]

# Two stages: the first compiles, the second holds the binary, the few shared
# libraries that it is linked with, and nothing else: no shell, no package
# manager, no curl. Build: docker build -t video-notifier .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# A panic names its line without symbols, and they are a good part of the file.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols

# The dependencies first, against an empty crate. This layer changes only with
# the manifest and the lock, so an edit of the source recompiles one crate.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' | tee build.rs > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    # What was built of the empty crate must go: cargo compares times, and a
    # checkout's files may be older than it.
    && cargo clean --release --package video-notifier

COPY build.rs ./
COPY static static
COPY src src
RUN cargo build --release --locked

# The root file system of the image: the binary and the libraries that ldd
# finds, with Debian's own records of them, so that scanners still see what is
# in there and in which version.
RUN install -D target/release/video-notifier /image/usr/local/bin/video-notifier \
    && ldd /image/usr/local/bin/video-notifier | grep --only-matching '/lib[^ ]*' \
        | xargs cp --parents --dereference --target-directory /image \
    && mkdir -p /image/etc /image/var/lib/dpkg/status.d \
    && for package in libc6 libgcc-s1; do \
        dpkg-query --status "$package" > "/image/var/lib/dpkg/status.d/$package" \
        && cp --parents "/usr/share/doc/$package/copyright" /image || exit 1; \
    done \
    && cp --dereference /etc/os-release /image/etc/os-release \
    && install --directory --mode=0700 /volume/data

FROM scratch
COPY --from=build /image /
# A fresh named volume takes over the owner of the folder that it covers. A
# folder of the host's that is mounted here instead must belong to this uid.
# (Copied by way of its parent: --chown leaves the target itself as it is.)
COPY --from=build --chown=10001:10001 /volume /
USER 10001:10001
VOLUME /data

# The binary's own defaults are for a developer's machine: loopback, ./data.
ENV NOTIFIER_LISTEN=0.0.0.0:8765 \
    NOTIFIER_DATA_DIR=/data
EXPOSE 8765

# The server drains within 8 s of SIGTERM, and Docker waits 10.
STOPSIGNAL SIGTERM
# A start that waits 10 s for its predecessor to let go of the data is healthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["/usr/local/bin/video-notifier", "healthcheck"]

# Last, so that a new revision with the same source keeps every layer.
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="video-notifier" \
      org.opencontainers.image.description="Pushes a toast to every open browser tab the moment new trending videos are fetched." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

ENTRYPOINT ["/usr/local/bin/video-notifier"]

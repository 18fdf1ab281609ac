/// <reference types="video-notifier/notifier.js" />

// What a site writes that has the script tag, and no bundler: the class is a global.

window.VideoNotifier.instance?.addEventListener("notification", ({ detail }) => console.log(detail.region));
new VideoNotifier("/ws", { storage: "none" }).close();

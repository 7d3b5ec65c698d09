import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The development server passes every API call on to a running gateway, so the
// page stays on one origin as it is in production.
const gateway = process.env.ASSETTRACK_GATEWAY_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    // Not `assets`: /assets/… are pages of the UI.
    assetsDir: "static",
    // No data: URLs, and no inline script: the content security policy has
    // `script-src 'self'`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: ["chrome123", "firefox121", "safari17.5"],
  },
  server: {
    proxy: {
      "/v1": gateway,
      "^/assettrack\\.v1\\.": gateway,
    },
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["src/testing/setup.ts"],
    restoreMocks: true,
  },
});

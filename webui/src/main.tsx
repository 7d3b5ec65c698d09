import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { browserTransport } from "./connect";
import { ServerClock } from "./format/serverClock";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/parts.css";
import "./styles/pages.css";

const root = document.getElementById("root");
if (!root) {
  throw new Error("index.html has no #root");
}
const clock = new ServerClock();
createRoot(root).render(
  <StrictMode>
    <App transport={browserTransport(clock)} clock={clock} />
  </StrictMode>,
);

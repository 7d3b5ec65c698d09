import { Component, type ReactNode } from "react";

interface State {
  error: unknown;
}

/**
 * Catches what a page throws, such as a file of it that an upgrade took away,
 * so that the rest of the UI stays usable.
 */
export class CrashBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { error: undefined };

  static getDerivedStateFromError(error: unknown): State {
    return { error };
  }

  override render() {
    const { error } = this.state;
    if (error === undefined) {
      return this.props.children;
    }
    return (
      <main id="content" className="page" tabIndex={-1}>
        <div className="problem" role="alert">
          <p className="problem-title">This page could not be shown</p>
          <p>{error instanceof Error ? error.message : String(error)}</p>
          <p>If AssetTrack was upgraded while it was open, loading it again helps.</p>
          <button type="button" onClick={() => window.location.reload()}>
            Load again
          </button>
        </div>
      </main>
    );
  }
}

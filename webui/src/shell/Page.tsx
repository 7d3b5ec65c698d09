import type { ReactNode } from "react";

interface Props {
  /** Of the browser's tab, and the heading unless one is given. */
  title: string;
  heading?: ReactNode;
  /** On the right of the heading: freshness, buttons. */
  aside?: ReactNode;
  children: ReactNode;
}

/** The frame of every page: its title, heading and content. */
export function Page({ title, heading, aside, children }: Props) {
  return (
    <main id="content" className="page" tabIndex={-1}>
      <title>{`${title} · AssetTrack`}</title>
      <header className="page-head">
        <h1>{heading ?? title}</h1>
        {aside && <div className="page-aside">{aside}</div>}
      </header>
      {children}
    </main>
  );
}

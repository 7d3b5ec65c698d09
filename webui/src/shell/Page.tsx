import { type ReactNode, useEffect, useRef } from "react";
import { NavigationType, useNavigationType } from "react-router";

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
  const main = useRef<HTMLElement>(null);
  const how = useNavigationType();
  useEffect(() => {
    // A new page starts at its top; going back, the browser knows where it was.
    // The focus moves along, or it would stay on a link that is gone.
    main.current?.focus({ preventScroll: true });
    if (how !== NavigationType.Pop) {
      window.scrollTo(0, 0);
    }
    // Once for each page, not for each search in it.
    // oxlint-disable-next-line react/exhaustive-deps
  }, []);
  return (
    <main id="content" className="page" tabIndex={-1} ref={main}>
      <title>{`${title} · AssetTrack`}</title>
      <header className="page-head">
        <h1>{heading ?? title}</h1>
        {aside && <div className="page-aside">{aside}</div>}
      </header>
      {children}
    </main>
  );
}

import { type FormEvent, Suspense, useRef } from "react";
import { Link, NavLink, Outlet, useLocation, useNavigate } from "react-router";
import { assetsPath } from "../assets/search";
import { Loading } from "../freshness/QueryView";
import { useSlashKey } from "../search/useSlashKey";
import { CrashBoundary } from "./CrashBoundary";
import mark from "./mark.svg";

const PAGES = [
  ["/", "Overview"],
  ["/assets", "Assets"],
  ["/nodes", "Nodes"],
  ["/events", "Events"],
  ["/deadLetters", "Dead letters"],
] as const;

/** What is around every page. */
export function Shell() {
  const { pathname } = useLocation();
  return (
    <>
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <header className="bar">
        <Link className="brand" to="/">
          <img src={mark} alt="" width="22" height="22" />
          AssetTrack
        </Link>
        <nav aria-label="Pages">
          {PAGES.map(([path, name]) => (
            <NavLink key={path} to={path} end={path === "/"}>
              {name}
            </NavLink>
          ))}
        </nav>
        {pathname !== "/assets" && <QuickSearch />}
      </header>
      <CrashBoundary key={pathname}>
        <Suspense fallback={<Loading />}>
          <Outlet />
        </Suspense>
      </CrashBoundary>
    </>
  );
}

/** From anywhere to the asset list. */
function QuickSearch() {
  const navigate = useNavigate();
  const input = useRef<HTMLInputElement>(null);
  useSlashKey(input);
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const text = new FormData(event.currentTarget).get("q");
    void navigate(assetsPath({ text: typeof text === "string" ? text.trim() : "" }));
  };
  return (
    <search className="quick-search">
      <form onSubmit={onSubmit}>
        <input
          ref={input}
          type="search"
          name="q"
          aria-label="Search assets"
          placeholder="Search assets ( / )"
          spellCheck={false}
          autoComplete="off"
        />
      </form>
    </search>
  );
}

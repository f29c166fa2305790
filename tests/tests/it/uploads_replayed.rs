//! What `nix copy --to` sends, request by request, as older and newer releases order it: each path whole after its
//! references, or all NARs at once and then the narinfos. (PROTOCOL.md §2.2.)

use futures::future::join_all;
use ncps_nix::Compression;
use ncps_tests::{Cluster, Fixture, Request, both_modes};

use crate::asking::{Answer, ask, get, head};
use crate::objects::encoded;
use crate::tokens::basic;
use crate::uploads::{closed, is_served};

/// A client with a closure: each path after what it references.
struct Client<'c> {
    cluster: &'c Cluster,
    /// Where it writes.
    door: &'static str,
    closure: Vec<Fixture>,
}

fn closure() -> Vec<Fixture> {
    let part = |name, size| Fixture::new(name).size(size).compression(Compression::Zstd);
    let data = part("data-1.0", 900_000).build_unsigned();
    let library = part("library-1.0", 200_000).references(&[data.store_path().clone()]).build_unsigned();
    let both = [data.store_path().clone(), library.store_path().clone()];
    let tool = part("tool-1.0", 50_000).references(&both[1..]).build_unsigned();
    let package = part("package-1.0", 500_000).references(&both).build_unsigned();
    vec![data, library, tool, package]
}

impl Client<'_> {
    async fn asks(&self, request: Request) -> Answer {
        ask(self.cluster, request.header("Authorization", &basic("signer"))).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.door)
    }

    /// It asks what there is before it sends anything.
    async fn finds_nothing(&self) {
        let info = self.asks(Request::get(&self.at("/nix-cache-info"))).await;
        assert!(info.status == 200 && info.text().contains("StoreDir: /nix/store"), "{}", info.text());
        let asked = self.closure.iter().map(async |fixture| {
            assert_eq!(self.asks(Request::get(&self.at(&fixture.narinfo_path()))).await.status, 404);
        });
        join_all(asked).await;
    }

    async fn sends_listing(&self, fixture: &Fixture) {
        let listing = encoded("br", "{\"version\":1,\"root\":{\"type\":\"directory\",\"entries\":{}}}").await;
        let path = self.at(&format!("/{}.ls", fixture.hash_part()));
        let told = self.asks(Request::put(&path, listing).header("Content-Encoding", "br")).await;
        assert_eq!(told.status, 204, "{}", told.text());
    }

    /// Unless it is there.
    async fn sends_nar(&self, fixture: &Fixture) {
        let path = self.at(&fixture.nar_path());
        assert_eq!(head(self.cluster, &path).await.status, 404, "{path}");
        let told = self.asks(Request::put(&path, fixture.file.clone()).expect_continue()).await;
        assert_eq!(told.status, 204, "{}", told.text());
        assert_eq!(head(self.cluster, &path).await.status, 200, "{path}");
    }

    /// Only after those of its references.
    async fn sends_narinfo(&self, fixture: &Fixture) {
        for reference in &fixture.narinfo.references {
            let path = self.at(&format!("/{}.narinfo", reference.hash()));
            assert_eq!(self.asks(Request::get(&path)).await.status, 200, "{path}");
        }
        let path = self.at(&fixture.narinfo_path());
        let told = self.asks(Request::put(&path, fixture.narinfo_text())).await;
        assert_eq!(told.status, 204, "{}", told.text());
        assert_eq!(
            self.asks(Request::get(&path)).await.status,
            200,
            "it was absent, and that was remembered"
        );
    }

    async fn all_is_there(&self) {
        for fixture in &self.closure {
            is_served(self.cluster, fixture).await;
            let listing = get(self.cluster, &format!("/{}.ls", fixture.hash_part())).await;
            assert!(listing.status == 200 && listing.text().contains("\"version\":1"), "{}", listing.text());
        }
        assert_eq!(self.cluster.stored_files().len(), self.closure.len());
    }
}

both_modes! {
    async fn older_releases_send_path_after_path(mode) {
        for door in ["", "/upload"] {
            let cluster = closed(mode).start().await;
            let client = Client { cluster: &cluster, door, closure: closure() };
            client.finds_nothing().await;
            for fixture in &client.closure {
                client.sends_listing(fixture).await;
                client.sends_nar(fixture).await;
                client.sends_narinfo(fixture).await;
            }
            client.all_is_there().await;
            cluster.end().await;
        }
    }

    async fn newer_releases_send_all_nars_at_once_and_then_the_narinfos(mode) {
        for door in ["", "/upload"] {
            let cluster = closed(mode).start().await;
            let client = Client { cluster: &cluster, door, closure: closure() };
            client.finds_nothing().await;
            let mut largest_first: Vec<_> = client.closure.iter().collect();
            largest_first.sort_by_key(|fixture| std::cmp::Reverse(fixture.narinfo.nar_size));
            join_all(largest_first.iter().map(async |fixture| {
                client.sends_listing(fixture).await;
                client.sends_nar(fixture).await;
            }))
            .await;
            for fixture in &client.closure {
                let path = client.at(&fixture.narinfo_path());
                assert_eq!(client.asks(Request::get(&path)).await.status, 404, "a NAR alone is no path");
            }
            for fixture in &client.closure {
                client.sends_narinfo(fixture).await;
            }
            client.all_is_there().await;
            cluster.end().await;
        }
    }
}
